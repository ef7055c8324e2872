"""The command line: parse, call, print. One verb, one file; nothing heavy is imported before the verb is known."""
