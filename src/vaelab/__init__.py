"""vaelab: variational autoencoders of images, from training to sharing, one function per step.

>>> import vaelab
>>> run = vaelab.train("digits")                      # doctest: +SKIP
>>> model = vaelab.load(run)                          # doctest: +SKIP
>>> model.encode(images).mean, model.sample(16)       # doctest: +SKIP
"""

import lazy_loader

# Names are imported from the modules in __init__.pyi on first use, so that ``import vaelab`` is fast (SPEC 1).
_find_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("vaelab")
    return _find_name(name)
