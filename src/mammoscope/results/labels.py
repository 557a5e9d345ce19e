"""Where the label of a finding goes."""

from mammoscope.findings import Box


def label_box(box: Box, width: float, height: float, rows: int, columns: int) -> Box:
    """A place for a label that never leaves the image and covers the finding only where there is no other room.

    Above the box, else below it, else in its upper left corner; moved left where it would stick out.

    Parameters
    ----------
    width, height
        Of the label, in the pixels of the image; cut to the image's own size.
    """
    width, height = min(width, float(columns)), min(height, float(rows))
    gap = height / 4
    left = min(max(box.x0, 0.0), columns - width)
    if box.y0 - gap - height >= 0:
        top = box.y0 - gap - height
    elif box.y1 + gap + height <= rows:
        top = box.y1 + gap
    else:
        top = min(max(box.y0, 0.0), rows - height)
    return Box(left, top, left + width, top + height)
