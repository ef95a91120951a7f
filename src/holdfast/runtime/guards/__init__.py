"""What guards calls at run time: rows that processes share, the gates that read them, and calls through these."""
