"""Sheets: several images of one size in one picture, row by row."""

from collections.abc import Sequence

from PIL import Image


def image_grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """An RGB sheet with the images row by row, without gaps; unused cells are black.

    Raises:
        ValueError: no images, images of several sizes, or fewer than one column.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}; give at least 1")
    if not images:
        raise ValueError("there are no images to show; give at least one")
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        raise ValueError(f"the images have sizes {sizes}; resize them to one size first")
    width, height = sizes[0]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image.convert("RGB"), (index % columns * width, index // columns * height))
    return sheet


def grid_images(sheet: Image.Image, *, rows: int, columns: int) -> list[Image.Image]:
    """The images of a full sheet that `image_grid` made, row by row; pixel for pixel if the file was lossless.

    Raises:
        ValueError: the sheet cannot have so many rows and columns of equal images.
    """
    if rows < 1 or columns < 1 or sheet.width % columns or sheet.height % rows:
        raise ValueError(
            f"a sheet of {sheet.width} x {sheet.height} pixels has no {columns} x {rows} images of one size"
        )
    width, height = sheet.width // columns, sheet.height // rows
    return [
        sheet.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
        for row in range(rows)
        for column in range(columns)
    ]
