"""Create containers in Azurite. obstore stores objects and cannot create containers.

usage: containers.py PORT NAME ...
"""

import base64
import email.utils
import hashlib
import hmac
import sys
import urllib.request

_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # of every emulator


def create(port: int, name: str) -> None:
    """Create a container, by a request signed with the account's key."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    lines = "".join(f"{header}:{value}\n" for header, value in headers.items())
    text = f"PUT{12 * chr(10)}{lines}/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
    signature = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(signature).decode()}"
    address = f"http://127.0.0.1:{port}/{_ACCOUNT}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(address, b"", headers | {"content-type": ""}, method="PUT")).close()


for container in sys.argv[2:]:
    create(int(sys.argv[1]), container)
