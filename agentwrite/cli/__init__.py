"""The commands of `agentwrite`, one file each. Importing one loads nothing heavy."""
