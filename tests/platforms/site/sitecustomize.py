"""Python runs this file at its start if its folder is on the path: it puts in the differences of another system.

So they hold in the processes that the program starts too. DDPM_SIMULATE names the system.
"""

import os
from importlib import import_module

if os.environ.get("DDPM_SIMULATE"):
    try:
        import_module(f"tests.platforms.{os.environ['DDPM_SIMULATE']}").install()
    except BaseException as error:  # Python would go on without it
        os.write(2, f"the simulation does not start: {error!r}\n".encode())
        os._exit(70)
