"""Neural materials on meshes: the Mitsuba BSDF `neumip`, scenes and turntables."""


def register() -> None:
    """Make the BSDF `neumip` known to Mitsuba, in the variant that is set and in every one set later.

    Importing gonio does this by itself when Mitsuba was imported before.
    """
    from gonio.render.bsdf_plugin import register as register_plugin

    register_plugin()
