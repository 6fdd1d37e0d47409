"""The eight labels of the canned gesture classifier, by index (order verified on photographs and emoji; no file states it)."""

LABELS = (
    "None",
    "Closed_Fist",
    "Open_Palm",
    "Pointing_Up",
    "Thumb_Down",
    "Thumb_Up",
    "Victory",
    "ILoveYou",
)
