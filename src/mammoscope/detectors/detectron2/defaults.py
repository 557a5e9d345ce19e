"""Detectron2's default settings as far as they say what its two networks are, and what of them can be imported.

Source: ``detectron2/config/defaults.py`` and ``configs/Base-{RetinaNet,RCNN-FPN}.yaml``,
read key by key. The solver's and data's settings, and those of parts that these networks do not have, are left out.
"""

from typing import Any

OCTAVES_EXPRESSION = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
OCTAVES = [[side * 2 ** (part / 3) for part in range(3)] for side in (32, 64, 128, 256, 512)]

_DISABLED: dict[str, Any] = {"ENABLED": False}

DEFAULTS: dict[str, Any] = {
    "INPUT": {"MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333},
    "TEST": {"DETECTIONS_PER_IMAGE": 100, "AUG": _DISABLED},
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "MASK_ON": False,
        "KEYPOINT_ON": False,
        "LOAD_PROPOSALS": False,
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
        "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"},
        "RESNETS": {
            "DEPTH": 50,
            "OUT_FEATURES": ["res4"],
            "NUM_GROUPS": 1,
            "NORM": "FrozenBN",
            "WIDTH_PER_GROUP": 64,
            "STRIDE_IN_1X1": True,
            "RES5_DILATION": 1,
            "RES2_OUT_CHANNELS": 256,
            "STEM_OUT_CHANNELS": 64,
            "DEFORM_ON_PER_STAGE": [False] * 4,
        },
        "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},
        "ANCHOR_GENERATOR": {
            "NAME": "DefaultAnchorGenerator",
            "SIZES": [[32, 64, 128, 256, 512]],
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "OFFSET": 0.0,
        },
        "RETINANET": {
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
            "NUM_CONVS": 4,
            "IOU_THRESHOLDS": [0.4, 0.5],
            "IOU_LABELS": [0, -1, 1],
            "PRIOR_PROB": 0.01,
            "SCORE_THRESH_TEST": 0.05,
            "TOPK_CANDIDATES_TEST": 1000,
            "NMS_THRESH_TEST": 0.5,
            "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
            "FOCAL_LOSS_GAMMA": 2.0,
            "FOCAL_LOSS_ALPHA": 0.25,
            "SMOOTH_L1_LOSS_BETA": 0.1,
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "NORM": "",
        },
        "RPN": {
            "HEAD_NAME": "StandardRPNHead",
            "IN_FEATURES": ["res4"],
            "BOUNDARY_THRESH": -1,
            "IOU_THRESHOLDS": [0.3, 0.7],
            "IOU_LABELS": [0, -1, 1],
            "BATCH_SIZE_PER_IMAGE": 256,
            "POSITIVE_FRACTION": 0.5,
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
            "SMOOTH_L1_BETA": 0.0,
            "LOSS_WEIGHT": 1.0,
            "PRE_NMS_TOPK_TRAIN": 12000,
            "PRE_NMS_TOPK_TEST": 6000,
            "POST_NMS_TOPK_TRAIN": 2000,
            "POST_NMS_TOPK_TEST": 1000,
            "NMS_THRESH": 0.7,
            "CONV_DIMS": [-1],
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeads",
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.5],
            "IOU_LABELS": [0, 1],
            "BATCH_SIZE_PER_IMAGE": 512,
            "POSITIVE_FRACTION": 0.25,
            "SCORE_THRESH_TEST": 0.05,
            "NMS_THRESH_TEST": 0.5,
            "PROPOSAL_APPEND_GT": True,
        },
        "ROI_BOX_HEAD": {
            "NAME": "",
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
            "SMOOTH_L1_BETA": 0.0,
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
            "NUM_FC": 0,
            "FC_DIM": 1024,
            "NUM_CONV": 0,
            "CLS_AGNOSTIC_BBOX_REG": False,
            "USE_SIGMOID_CE": False,
        },
    },
}

BASES: dict[str, dict[str, Any]] = {
    "Base-RetinaNet.yaml": {
        "MODEL": {
            "META_ARCHITECTURE": "RetinaNet",
            "BACKBONE": {"NAME": "build_retinanet_resnet_fpn_backbone"},
            "RESNETS": {"OUT_FEATURES": ["res3", "res4", "res5"]},
            "ANCHOR_GENERATOR": {"SIZES": OCTAVES},
            "FPN": {"IN_FEATURES": ["res3", "res4", "res5"]},
            "RETINANET": {"SMOOTH_L1_LOSS_BETA": 0.0},
        }
    },
    "Base-RCNN-FPN.yaml": {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
            "RESNETS": {"OUT_FEATURES": ["res2", "res3", "res4", "res5"]},
            "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"]},
            "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]]},
            "RPN": {
                "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
                "PRE_NMS_TOPK_TRAIN": 2000,
                "PRE_NMS_TOPK_TEST": 1000,
                "POST_NMS_TOPK_TRAIN": 1000,
                "POST_NMS_TOPK_TEST": 1000,
            },
            "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3", "p4", "p5"]},
            "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
        }
    },
}

WITHOUT_SAY = frozenset(
    {
        *("VERSION", "SOLVER", "DATASETS", "DATALOADER", "OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "VIS_PERIOD"),
        *("GLOBAL", "FLOAT32_PRECISION"),
        *("INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "INPUT.MAX_SIZE_TRAIN", "INPUT.RANDOM_FLIP"),
        # The channels of a mammogram are alike, whatever their order.
        *("INPUT.CROP", "INPUT.FORMAT", "INPUT.MASK_FORMAT"),
        *("TEST.EXPECTED_RESULTS", "TEST.EVAL_PERIOD", "TEST.KEYPOINT_OKS_SIGMAS", "TEST.PRECISE_BN"),
        *("TEST.AUG.MIN_SIZES", "TEST.AUG.MAX_SIZE", "TEST.AUG.FLIP"),
        *("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.ANCHOR_GENERATOR.ANGLES", "MODEL.RESNETS.DEFORM_MODULATED"),
        *("MODEL.RESNETS.DEFORM_NUM_GROUPS", "MODEL.ROI_MASK_HEAD", "MODEL.ROI_KEYPOINT_HEAD"),
        *("MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN", "MODEL.ROI_BOX_CASCADE_HEAD"),
        *("MODEL.ROI_BOX_HEAD.CONV_DIM", "MODEL.ROI_BOX_HEAD.NORM", "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES"),
        *("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER"),
        *("MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES",),
    }
)
"""Settings without say in what a trained network finds."""

_BATCH_NORMS = ["FrozenBN", "BN", "SyncBN"]

NEEDED: dict[str, list[Any]] = {
    "MODEL.MASK_ON": [False],
    "MODEL.KEYPOINT_ON": [False],
    "MODEL.LOAD_PROPOSALS": [False],
    "MODEL.RESNETS.DEPTH": [50, 101],
    "MODEL.RESNETS.NUM_GROUPS": [1],
    # In use all three norm by the statistics of training.
    "MODEL.RESNETS.NORM": [*_BATCH_NORMS, "GN"],
    "MODEL.RESNETS.WIDTH_PER_GROUP": [64],
    "MODEL.RESNETS.RES5_DILATION": [1],
    "MODEL.RESNETS.RES2_OUT_CHANNELS": [256],
    "MODEL.RESNETS.STEM_OUT_CHANNELS": [64],
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [[False] * 4],
    "MODEL.FPN.NORM": ["", "GN"],
    "MODEL.FPN.FUSE_TYPE": ["sum"],
    "MODEL.ANCHOR_GENERATOR.NAME": ["DefaultAnchorGenerator"],
    "TEST.AUG.ENABLED": [False],
}
"""The values that can be imported."""

NEEDED_BY: dict[str, dict[str, list[Any]]] = {
    "RetinaNet": {
        "MODEL.BACKBONE.NAME": ["build_retinanet_resnet_fpn_backbone"],
        "MODEL.FPN.IN_FEATURES": [["res3", "res4", "res5"]],
        "MODEL.RETINANET.IN_FEATURES": [["p3", "p4", "p5", "p6", "p7"]],
        "MODEL.RETINANET.NORM": ["", "GN"],
    },
    "GeneralizedRCNN": {
        "MODEL.BACKBONE.NAME": ["build_resnet_fpn_backbone"],
        "MODEL.FPN.IN_FEATURES": [["res2", "res3", "res4", "res5"]],
        "MODEL.PROPOSAL_GENERATOR.NAME": ["RPN"],
        "MODEL.RPN.HEAD_NAME": ["StandardRPNHead"],
        "MODEL.RPN.IN_FEATURES": [["p2", "p3", "p4", "p5", "p6"]],
        "MODEL.RPN.CONV_DIMS": [[-1]],
        "MODEL.ROI_HEADS.NAME": ["StandardROIHeads"],
        "MODEL.ROI_HEADS.IN_FEATURES": [["p2", "p3", "p4", "p5"]],
        "MODEL.ROI_BOX_HEAD.NAME": ["FastRCNNConvFCHead"],
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ["ROIAlignV2"],
        "MODEL.ROI_BOX_HEAD.NUM_CONV": [0],
        "MODEL.ROI_BOX_HEAD.NUM_FC": [1, 2, 3, 4],
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": [False],
    },
}
