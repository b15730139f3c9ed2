"""The loss: a mean over tokens."""
