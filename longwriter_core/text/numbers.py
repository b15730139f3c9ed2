"""Numbers as people write them in English and Chinese: 1,500, 10k, 1.5万, two thousand. Pure."""

import re

# Maps single characters to single characters, so positions in the original text stay the same.
_NARROW = str.maketrans(
    "‐‑−壹贰叁肆伍陆柒捌玖拾佰仟０１２３４５６７８９：，．（）～－—–％＃＝＋萬兩個約數內點觀總計詞餘來於標驟節漢體號篇寫為爲這",
    "---一二三四五六七八九十百千0123456789:,.()~---%#=+万两个约数内点观总计词余来于标骤节汉体号篇写为为这",
)
_CHINESE_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")}
_CHINESE_DIGITS |= {"〇": 0, "两": 2}
_CHINESE_UNITS = {"十": 10, "百": 100, "千": 1000}
CHINESE_NUMBER = f"[{''.join((*_CHINESE_DIGITS, *_CHINESE_UNITS))}万]"
SMALL_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_LARGE_NUMBERS = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
SMALL = "|".join(sorted(SMALL_NUMBERS, key=len, reverse=True))
NUMBER_WORD = rf"(?:{SMALL})\b"
SPELLED = (  # twenty-five thousand, half a million; at least a hundred
    rf"\b(?:half[\s-]a[\s-]|(?:{SMALL})[\s-]+and[\s-]+a[\s-]+half[\s-]+|(?:(?:an?|{SMALL})[\s-]+(?:(?:and[\s-]+)?(?:{SMALL})[\s-]+){{0,2}}))"
    rf"(?:hundred|thousand|million)\b"
    rf"(?:[\s-]+(?:and[\s-]+)?(?:{SMALL}|hundred|thousand)\b){{0,4}}"
)


def narrow(text: str) -> str:
    """`text` with full-width digits and punctuation as ASCII, character for character.

    Traditional characters that occur in lengths and plan steps become simplified ones.
    """
    return text.translate(_NARROW)


def number(text: str) -> float | None:
    """The value of "1,500", "15 000", "1.5万", "10k", "三千五百", "two thousand"; else None."""
    amount = re.sub(r"(?<=\d) (?=000)", "", narrow(text).strip().lower().replace(",", ""))
    if re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{3})+", amount):  # 6.000 is German for six thousand
        amount = amount.replace(".", "")
    if match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(\D*)", amount):
        factors = {
            "": 1, "k": 1000, "thousand": 1000, "千": 1000, "w": 10_000, "万": 10_000,
            "million": 1_000_000, "m": 1_000_000, "百": 100, "十": 10, "十万": 100_000,
            "百万": 1_000_000, "千万": 10_000_000,
        }  # fmt: skip
        factor = factors.get(match[2].strip())
        return float(match[1]) * factor if factor else None
    if re.fullmatch(r"[0-9](?:\.[0-9]+)?e[1-6]", amount):
        return float(amount)
    if match := re.fullmatch(r"([0-9]+)万([0-9])千?", amount):  # 1万5千, 2万5
        return float(match[1]) * 10_000 + float(match[2]) * 1000
    if re.fullmatch(rf"{CHINESE_NUMBER}+", amount):
        return _chinese_number(amount)
    return _english_number(amount)


def _english_number(text: str) -> float | None:
    """ "twenty-five thousand" is 25000, "half a million" 500000; at least a hundred."""
    words = [word for word in re.split(r"[\s-]+", text) if word and word != "and"]
    if words[:2] == ["half", "a"] and len(words) == 3:
        return _LARGE_NUMBERS.get(words[2], 0) / 2 or None
    if not any(word in _LARGE_NUMBERS for word in words):
        return None
    if words[1:3] == ["a", "half"] and len(words) == 4:  # two and a half thousand
        return (SMALL_NUMBERS.get(words[0], 0) + 0.5) * _LARGE_NUMBERS.get(words[3], 0) or None
    total, current = 0, 0
    for place, word in enumerate(words):
        if word in ("a", "an"):  # a hundred; but "a twenty thousand word novel"
            current += words[place + 1 : place + 2] not in ([small] for small in SMALL_NUMBERS)
        elif word in SMALL_NUMBERS:
            current += SMALL_NUMBERS[word]
        elif word == "hundred":
            current = (current or 1) * 100
        elif word in _LARGE_NUMBERS:
            total, current = total + (current or 1) * _LARGE_NUMBERS[word], 0
        else:
            return None
    return float(total + current) or None


def _chinese_number(text: str) -> float:
    """三千五百 is 3500; the colloquial 一万五 is 15000; 两三千 is 2500."""
    if match := re.fullmatch(r"([一二两三四五六七八九])([一二三四五六七八九])([十百千万]+)", text):
        first, second = _CHINESE_DIGITS[match[1]], _CHINESE_DIGITS[match[2]]
        if second == first + 1:
            return (first + second) / 2 * _chinese_number(f"一{match[3]}")
    total = section = digit = 0
    unit = 1
    for character in text:
        if character == "万":
            total, section, digit, unit = ((total + section + digit) or 1) * 10_000, 0, 0, 10_000
        elif character in _CHINESE_UNITS:
            unit = _CHINESE_UNITS[character]
            section, digit = section + (digit or 1) * unit, 0
        else:
            digit = _CHINESE_DIGITS[character]
            unit = 1 if digit == 0 else unit
    is_short_form = len(text) > 2 and unit > 10 and digit
    return float(total + section + (digit * unit // 10 if is_short_form else digit))
