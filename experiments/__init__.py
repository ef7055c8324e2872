"""One-off studies: tables as files that `cicm table run FILE.toml` makes, and scripts that answer one question."""
