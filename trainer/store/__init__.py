"""Where results go: journal, delivery, MLflow, tickets, shared files."""
