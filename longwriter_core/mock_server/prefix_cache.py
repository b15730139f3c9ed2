"""How much of a prompt a server with a prefix cache has seen before."""

import hashlib

_BLOCK = 512  # characters: 128 tokens, as large as OpenAI's blocks


class PrefixCache:
    """The prefixes of all prompts so far, in blocks. Nothing is ever evicted."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def look_up(self, prompt: str) -> int:
        """How many characters of the prompt begin an earlier one; remembers this prompt too."""
        digest = hashlib.blake2b(digest_size=16)
        cached, is_cached = 0, True
        for end in range(_BLOCK, len(prompt) + 1, _BLOCK):
            digest.update(prompt[end - _BLOCK : end].encode("utf-8", "surrogatepass"))
            block = digest.digest()
            is_cached = is_cached and block in self._seen
            cached = end if is_cached else cached
            self._seen.add(block)
        return cached
