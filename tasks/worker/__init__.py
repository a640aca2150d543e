"""The process that fine-tunes and scores: torch, transformers, safetensors, numpy, nothing else.

It is started as `python -m tasks.worker` or under `torchrun`, reads one JSON spec, takes its rows
as memory-mapped token ids (never as text), and prints one JSON line an event.
"""
