"""The check of a credential before it is stored: does the registry accept it?"""

from oci.reference import Reference
from oci.registry.client import ANY_SCOPE, Call, Client
from oci.registry.credential import Credential
from oci.registry.failures import refusal
from oci.registry.options import DEFAULT, Options

__all__ = ["check"]


def check(registry: str, credential: Credential, options: Options = DEFAULT) -> None:
    """Ask a registry, by its host name, whether it accepts a credential; one that wants none accepts all.

    Raises Unauthorized for a wrong one, Unavailable, and Denied or NotFound where there is no registry.
    """
    host = Reference(registry, "any", "latest").api_host
    client = Client(registry, host, lambda: credential, options)
    try:
        answer = client.ask(Call("GET", f"{client.base}/v2/", ANY_SCOPE))
    finally:
        client.close()
    if answer.status != 200:
        raise refusal(answer, f"registry (API version 2) at {registry}", registry)
