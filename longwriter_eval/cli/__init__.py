"""The commands of `longwriter`, one file each. Importing one loads nothing heavy."""
