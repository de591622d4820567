"""The commands of `translit-scale`, one module each: `add` declares its arguments, and the handler calls one room.

The handlers import the rooms, so that `--help` does not wait for torch.
"""
