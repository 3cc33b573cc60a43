"""Files <-> clips: images, footage, films, sheets, and the colour, alpha and metadata that travel with them.

Nothing is imported here, so that `import unfade.media` costs nothing: `images` reads and writes photos,
`video` streams footage in, `video_writer` writes it back with its sound, `film` saves a trajectory for
viewing, `sheet` draws it as a contact sheet, `resize` enlarges, `atomic` makes sure that no output is ever
half-written.
"""
