"""YAML that lm-eval reads, one folder per benchmark. `import_hook` tells lm-eval where it is."""
