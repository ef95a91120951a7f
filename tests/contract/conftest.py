import pytest

for module in ("commits", "jobs", "reads", "cases"):
    pytest.register_assert_rewrite(f"holdfast.testing.store_{module}")
