"""The commands of `translit-scale`, a module for each: `add` declares its arguments, the handler calls one room.

Rooms are imported inside the handlers: `--help` must not wait for torch.
"""
