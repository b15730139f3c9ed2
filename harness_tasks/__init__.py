"""Task YAML for lm-eval, one folder per benchmark. `import_hook` tells lm-eval where it is."""
