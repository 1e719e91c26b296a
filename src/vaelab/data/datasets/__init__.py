"""Data sets, one file each; every file has ``INFO``, ``load(data_dir, split, *, …) -> Images`` and may have more.

``load`` gives the split as the data set's authors publish it (``train``, ``valid`` or ``test``) and raises ValueError
for one that they do not. Its keyword arguments are the recipe's ``[data]`` keys. A data set that can be downloaded has
``get(target) -> Path``; one that needs files has ``find(data_dir)``, which says where they lie (or None), and
``check(folder)``, which yields (file, verdict). Where options shape the images, ``shape(**options)`` gives channels,
height and width before loading, and ``resize_policy(image_shape, **options)`` says how to bring other pictures to that
shape. A person's own files change: ``describe_layout(data_dir, **options)`` gives sentences and warnings about splits
and classes, and ``reload(data_dir, split, selections, **options)`` gives the images of an earlier ``load`` again, by
the ``selection`` of each split's images then.
"""
