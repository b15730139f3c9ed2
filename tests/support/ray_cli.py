"""Run `axolotl train RECIPE --use-ray` on workers without a GPU, which axolotl always asks for."""

import sys
from functools import partial
from typing import Any


def main(recipe: str, workers: str) -> None:
    import ray.train
    from axolotl.cli.train import do_cli

    ray.train.ScalingConfig = partial(_without_gpu, ray.train.ScalingConfig)
    sys.argv = sys.argv[:1]  # axolotl reads the command line as well
    do_cli(recipe, use_ray=True, ray_num_workers=int(workers))


def _without_gpu(kind: Any, **settings: Any) -> Any:
    return kind(**{**settings, "use_gpu": False, "resources_per_worker": {"CPU": 1}})


if __name__ == "__main__":
    main(*sys.argv[1:])
