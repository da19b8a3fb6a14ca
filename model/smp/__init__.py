"""Networks of segmentation_models_pytorch: names, modules, weights."""
