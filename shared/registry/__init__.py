"""Taking over what an OCP Data Registry knows: ``bowerbird import-registry``.

``sources.py`` reads its tables, from wherever they are; ``rows.py`` turns a row of either generation into ours;
``importer.py`` writes them, and can be repeated; ``files.py`` takes published files over.

The Data Registry's tables are Django's: ``data_registry_collection``, ``…_job``, ``…_task``, ``…_tasknote``,
``…_license``, ``…_settingsbundle``, ``…_setting``, ``…_issue``. A database of May 2024 lacks some and has others; what
is not there is taken as blank, what is unknown is left alone.
"""

from shared.errors import BowerbirdError


class RegistryError(BowerbirdError):
    """The source cannot be read as a Data Registry's data; the text says why and what can be."""
