"""Kinds of tags, as our own short lists, by which `prune` tells what belongs to the subject of a set.

Entries match whole tags, with `*` and `?` as in rules. `LAST_WORDS` ones match tags that are them or end with them as whole words: `red hair`
is of the kind `hair`, `chair` and `hair ribbon` are not.
"""

from __future__ import annotations

TRAIT_LAST_WORDS = (
    *("hair", "bangs", "bun", "buns", "braid", "braids", "twintails", "ponytail", "sidelocks", "ahoge", "drill", "drills", "afro", "updo"),
    *("dreadlocks", "bob cut", "hime cut", "pixie cut", "undercut", "side up", "hair bun", "two side up", "hair intakes", "widow's peak"),
    *("eyes", "pupils", "heterochromia", "eyebrows", "eyelashes", "skin", "freckles", "fang", "fangs", "beard", "mustache", "goatee"),
    *("ear", "ears", "horn", "horns", "tail", "tails", "wings", "halo", "antlers", "fur", "breasts", "flat chest", "facial mark"),
)
TRAIT_PATTERNS = ("dark-skinned *", "mole", "mole *", "scar", "scar *", "hair between eyes", "hair over *", "colored inner hair", "elf", "bald")
STATES = (
    *("closed eyes", "half-closed eyes", "narrowed eyes", "empty eyes", "rolling eyes", "crazy eyes", "covered eyes", "heart-shaped pupils"),
    *("wet *", "floating hair", "alternate *", "fake *", "pubic hair", "* pubic hair", "armpit hair", "chest hair", "glowing *", "detached *"),
    *("* own *", "* another's *", "* in hair", "* from eyes", "hand on *", "hands on *", "between *", "bouncing breasts", "spread wings"),
    *("adjusting *", "brushing *", "covering *", "cutting *", "grabbing *", "holding *", "pulling *", "rubbing *", "tying *", "washing *"),
)
"""What a character does or is at the moment: stays however frequent."""

STYLE_PATTERNS = (
    *("* (style)", "* (medium)", "*artstyle", "art nouveau", "art deco", "ukiyo-e", "impressionism", "realistic", "photorealistic", "pixel art"),
    *("sketch", "lineart", "line art", "monochrome", "greyscale", "spot color", "limited palette", "muted color", "pastel colors", "high contrast"),
    *("traditional media", "watercolor", "oil painting", "acrylic paint", "flat color", "cel shading", "anime coloring", "toon", "cartoon", "3d"),
    *("anime screencap", "game cg", "official art", "fake screenshot", "concept art", "comic", "4koma", "parody", "style parody", "film grain"),
    *("halftone", "screentones", "hatching (texture)", "crosshatching", "no lineart", "thick outlines", "colored pencil *", "painting"),
)
"""Names of styles and media."""
OVERLAY_PATTERNS = (
    *("watermark", "* watermark", "signature", "artist name", "artist logo", "web address", "* username", "dated", "commentary", "* commentary"),
    *("commentary request", "copyright name", "character name", "logo", "patreon *", "sample watermark", "jpeg artifacts", "scan artifacts"),
    *("masterpiece", "* quality", "absurdres", "highres", "lowres", "incredibly absurdres", "bad id", "bad * id", "score ?", "score ? up"),
)
"""What was put upon a picture or says how good it is: never what is to be learnt."""

CLOTHES_LAST_WORDS = (
    *("shirt", "t-shirt", "blouse", "sweater", "hoodie", "jacket", "blazer", "coat", "cardigan", "vest", "dress", "sundress", "skirt", "miniskirt"),
    *("pants", "jeans", "shorts", "leggings", "pantyhose", "thighhighs", "kneehighs", "socks", "legwear", "shoes", "boots", "sneakers", "loafers"),
    *("sandals", "slippers", "footwear", "heels", "gloves", "mittens", "gauntlets", "armor", "cape", "cloak", "scarf", "necktie", "bowtie", "ribbon"),
    *("bow", "hat", "cap", "beret", "hood", "headwear", "helmet", "crown", "tiara", "hairband", "hairclip", "hair ornament", "headdress", "veil"),
    *("uniform", "serafuku", "kimono", "yukata", "hakama", "obi", "sash", "apron", "swimsuit", "bikini", "leotard", "bodysuit", "jumpsuit", "suit"),
    *("corset", "belt", "buckle", "collar", "choker", "necklace", "earrings", "bracelet", "ring", "jewelry", "glasses", "eyewear", "sunglasses"),
    *("mask", "eyepatch", "sleeves", "sleeve", "neckline", "frills", "lace", "zipper", "buttons", "pocket", "straps", "garter straps", "costume"),
    *("clothes", "outfit", "underwear", "bra", "panties", "cuffs", "epaulettes", "neckerchief", "ascot", "capelet", "pleats", "robe", "overalls"),
)
CLOTHES_PATTERNS = ("sleeveless", "off shoulder", "bare shoulders", "strapless", "midriff", "crop top", "tank top", "* trim", "* print", "pleated *")
NOT_CLOTHES = (
    *("no *", "unworn *", "alternate *", "adjusting *", "holding *", "removing *", "hand on *", "hands on *", "hand in *", "* lift", "wet *"),
    *("clothes *", "undressing", "* pull", "* on head", "smoke ring", "boxing ring", "ring *", "bow (weapon)", "rainbow", "food *", "fake *"),
)
"""What is done with clothes, or is none: stays however frequent."""

COUNTS = (
    *("solo", "?girl", "?boy", "?girls", "?boys", "?+girls", "?+boys", "?other", "?others", "multiple girls", "multiple boys", "no humans"),
    *("solo focus", "male focus", "female focus"),
)
"""How many are to be seen: stays whatever is pruned."""
