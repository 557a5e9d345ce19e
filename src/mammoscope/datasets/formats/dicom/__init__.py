"""Annotations in DICOM objects: in come reports, presentation states and segmentations, out go marks in stored pixels.

`annotations.read_annotation_objects` reads a folder of them; `sr` reads structured reports, `gsps_seg` presentation
states and segmentations; `marks.Mark` is what each yields.
"""
