"""amqtt as a program, with the rights that `farm` promises: ``python amqtt_server.py HOST:PORT [--logins]``, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session


class Forbidden(BaseTopicPlugin):
    """What nobody may publish."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        del session
        levels = (topic or "").split("/")
        forbidden = levels[0] == "forbidden" or (levels[0], *levels[2:]) == ("chappe", "stream", "forbidden")
        return not (action == Action.PUBLISH and forbidden)


class Everybody(BaseAuthPlugin):
    """Everybody is somebody: no client counts as anonymous."""

    async def authenticate(self, *, session: Session) -> bool:
        del session
        return True


async def serve(address: str, logins: bool) -> None:
    """Serve on `address` until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": address}},
            "plugins": {**({"__main__.Everybody": {}} if logins else anonymous), "__main__.Forbidden": {}},
        }
    )
    await broker.start()
    await over.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], "--logins" in sys.argv[2:]))
