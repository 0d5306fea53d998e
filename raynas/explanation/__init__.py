"""Explanations: evidence first (`effects`), then claims (`findings`), then words (`sentences`)."""
