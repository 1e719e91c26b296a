"""The presets, one TOML file each: ``vaelab train NAME``. Each holds only what differs from the defaults."""
