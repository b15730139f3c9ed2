"""Rules of version 1.0 of the tasks that later versions changed. Pure.

Runs and archives of that version are read and verified by them: how a verdict is read from a
judge's reply, and which responses count as cut off.
"""
