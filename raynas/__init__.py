"""Neural architecture search that explains itself with evidence."""
