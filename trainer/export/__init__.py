"""Tickets taken away: plain PyTorch, a `.keras` file, and a folder for a model hub.

    python -m trainer.export <run id> my-ticket

Or from Python: `trainer.export.plain_torch.of_keras`, `trainer.export.folder.write`.
"""
