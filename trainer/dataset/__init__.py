"""Datasets: folders read, captions, buckets, pixels, and pictures of all that. No torch here."""

from .assign import Focus, assign_buckets
from .bucket_report import BucketCount, bucket_counts, bucket_report, steps_per_epoch
from .buckets import make_bucket_sizes, select_bucket, select_bucket_without_upscale
from .captions import caption_extension, read_caption, write_caption
from .crop import open_image, place, placed_image
from .duplicates import duplicate_notes, near_duplicates
from .load import load_list, places_of
from .name_pattern import NamePattern, name_pattern
from .pictures import bucket_chart, contact_sheet, duplicate_sheet
from .roles import with_regularization, with_validation
from .save import PICTURES, Pictures, SaveReport, save_captions
from .scan import scan_folder
from .shapes import shape_notes
from .split import held_out
from .store import store_images

__all__ = [
    "PICTURES",
    "BucketCount",
    "Focus",
    "NamePattern",
    "Pictures",
    "SaveReport",
    "assign_buckets",
    "bucket_chart",
    "bucket_counts",
    "bucket_report",
    "caption_extension",
    "contact_sheet",
    "duplicate_notes",
    "duplicate_sheet",
    "held_out",
    "load_list",
    "make_bucket_sizes",
    "name_pattern",
    "near_duplicates",
    "open_image",
    "place",
    "placed_image",
    "places_of",
    "read_caption",
    "save_captions",
    "scan_folder",
    "select_bucket",
    "select_bucket_without_upscale",
    "shape_notes",
    "steps_per_epoch",
    "store_images",
    "with_regularization",
    "with_validation",
    "write_caption",
]
