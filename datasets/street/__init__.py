"""How `datasets.scene` describes streets and how `datasets.render` draws them."""
