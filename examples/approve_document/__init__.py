"""A document pipeline in which a person approves what is risky; the run waits as rows in the store."""
