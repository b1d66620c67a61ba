"""Updates the catalogs of the framework from its source: ``python -m tests.localization``."""

from tests.localization.catalogs import LANGUAGES, catalog_path, update

for language in LANGUAGES:
    missing = update(language)
    print(f"{catalog_path(language)}: {len(missing)} texts have no translation")
