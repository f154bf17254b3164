from pathlib import Path
from .. import console
def run(config, folder: Path):
    console.show_config(config, str(folder))
