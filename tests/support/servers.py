"""The kinds of buckets that tests run on."""

import pytest

#: obstore's own in memory, and servers.
BUCKETS = ["memory", *(pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("s3", "gcs", "az"))]
