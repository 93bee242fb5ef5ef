"""The `recsys` command: one verb a stage, each in a file of its own, loaded when it is called."""
