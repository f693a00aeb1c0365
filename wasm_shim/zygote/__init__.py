"""The warm process that forks pod shims, and how to reach it."""
