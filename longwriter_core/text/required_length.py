"""The length that an instruction asks for, in words (Chinese: characters). Pure."""

import re

# Maps one character to one, so that positions in the narrow text are those of the original.
_NARROW = str.maketrans(
    "０１２３４５６７８９：，．（）～－—–％＃＝萬兩個約數內點觀總計詞餘來於標驟節漢體號",
    "0123456789:,.()~---%#=万两个约数内点观总计词余来于标骤节汉体号",
)
_CHINESE_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")}
_CHINESE_DIGITS |= {"〇": 0, "两": 2}
_CHINESE_UNITS = {"十": 10, "百": 100, "千": 1000}
CHINESE_NUMBER = f"[{''.join((*_CHINESE_DIGITS, *_CHINESE_UNITS))}万]"
_ENGLISH_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40,
    "fifty": 50,
}  # fmt: skip
NUMBER_WORD = rf"(?:{'|'.join(_ENGLISH_NUMBERS)})\b"

_AMOUNT = (
    # not within a number, but possibly right after a comma: "fifty years of tea,600字"
    r"(?<!\d)(?<!\d[.,])(?:\d{1,3}(?:,\d{3})+|\d{1,7}(?:\.\d{1,3})?)\s*(?:k\b|thousand\b|千|万)?"
    rf"|{CHINESE_NUMBER}{{1,9}}"
    rf"|\b(?:{'|'.join(_ENGLISH_NUMBERS)})[\s-]thousand"
)
_LENGTH = re.compile(
    rf"(?P<low>{_AMOUNT})(?:\s*(?:-|~|to|or|至|到)\s*(?P<high>{_AMOUNT}))?"
    # 字 also begins 字母 (letter), 字符 (character), 字段 (field) and 字体 (font)
    r"(?P<unit>[\s-]*words?\b|\s*[多余来]?\s*个?(?:汉字|字(?![母符段体典幕号]))|\s*[多余]?词)",
    re.IGNORECASE,
)
# 字数要求：2000左右
_UNITLESS = re.compile(rf"字数[^\d\n]{{0,6}}(?P<amount>{_AMOUNT})")
# The length of each part does not tell the length of the whole.
_EACH_BEFORE = re.compile(
    r"(\b(each|every|per)\b[^.。\n]{0,30}|每[^，。,.\n]{0,8})$", re.IGNORECASE
)
_EACH_AFTER = re.compile(r"\s*(each|per|every|a day|a chapter)\b", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_EACH_WINDOW = 40  # characters before a length that are searched for "each"


def narrow(text: str) -> str:
    """`text` with full-width digits and punctuation as ASCII, character for character.

    Traditional characters that occur in lengths and plan steps become simplified ones.
    """
    return text.translate(_NARROW)


def number(text: str) -> float | None:
    """The value of "1,500", "1.5万", "10k", "三千五百", "two thousand"; None for anything else."""
    amount = narrow(text).strip().lower().replace(",", "")
    if found := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(k|thousand|千|万)?", amount):
        factor = {None: 1, "万": 10_000}.get(found[2], 1000)
        return float(found[1]) * factor
    if re.fullmatch(rf"{CHINESE_NUMBER}+", amount):
        return _chinese_number(amount)
    word, _, thousand = re.sub(r"[\s-]+", " ", amount).partition(" ")
    if thousand == "thousand" and word in _ENGLISH_NUMBERS:
        return _ENGLISH_NUMBERS[word] * 1000.0
    return None


def required_length(instruction: str) -> int | None:
    """The length that `instruction` asks for: "10,000 words", "a 2k-word essay", "两千字左右".

    A range gives its middle. Several lengths give the largest, since a text is longer than its
    parts. None if the instruction names no length, or only the length of each part.
    """
    # because of its several \s*, _LENGTH would take cubic time on a long run of blanks
    text = _BLANKS.sub(lambda run: "\n" if "\n" in run[0] else " ", narrow(instruction))
    lengths = []
    for found in _LENGTH.finditer(text):
        before = text[max(0, found.start() - _EACH_WINDOW) : found.start()]
        if _EACH_BEFORE.search(before) or _EACH_AFTER.match(text, found.end()):
            continue
        high = number(found["high"] or found["low"]) or 0
        low = number(found["low"]) or 0
        if low < high and re.fullmatch(r"[0-9.,]+", found["low"].strip()) and low * 100 < high:
            low *= high / (number(re.sub(r"[^0-9.,]", "", found["high"])) or 1)  # 2 to 3k, 2-3万
        lengths.append(round((low + high) / 2))
    if not lengths and (bare := _UNITLESS.search(text)):
        lengths = [round(number(bare["amount"]) or 0)]
    return max(lengths, default=None) or None


def _chinese_number(text: str) -> float:
    """三千五百 is 3500; 一万五, as people say it, is 15000."""
    total = section = digit = 0
    unit = 1
    for character in text:
        if character == "万":
            total, section, digit, unit = (total + section + digit) * 10_000, 0, 0, 10_000
        elif character in _CHINESE_UNITS:
            unit = _CHINESE_UNITS[character]
            section, digit = section + (digit or 1) * unit, 0
        else:
            digit = _CHINESE_DIGITS[character]
            unit = 1 if digit == 0 else unit
    is_short_form = len(text) > 2 and unit > 10 and digit
    return float(total + section + (digit * unit // 10 if is_short_form else digit))
