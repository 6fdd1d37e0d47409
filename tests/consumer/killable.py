"""A consumer as a process that can be killed: writes each message into its own file's table, and a line into a plain file."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from chappe.consumer import Consumer, Patience
from chappe.core.units import MILLISECOND, Ns


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with (folder / "plain.txt").open("a", encoding="ascii", buffering=1) as plain:

        def take(message, db):  # type: ignore[no-untyped-def]
            db.execute("INSERT INTO got VALUES (?, ?)", (message.boot, message.seq))
            plain.write(f"{message.seq}\n")

        consumer = Consumer(
            "127.0.0.1",
            port,
            handler=take,
            state=folder / "state.db",
            name="ours",
            ordered="ordered" in sys.argv[3:],
            setup="CREATE TABLE IF NOT EXISTS got (boot TEXT, seq INTEGER);",
            patience=Patience(first=Ns(100 * MILLISECOND), pace=Ns(0)),
        )
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        consumer.run()


if __name__ == "__main__":
    main()
