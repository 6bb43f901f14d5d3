// Numbers and instants as text. Instants are always UTC and say so; a missing or non-finite number is an en dash.

export const MISSING = "–";
const MINUS = "\u2212";
const COMPACT_DIGITS = 4;

/** Return the formatters of one language tag. Fractions in, per cent or basis points out. */
export function createFormat(tag) {
  const number = (options) => new Intl.NumberFormat(tag, options);
  const fixed = cached((digits) => number({ minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const upTo = cached((digits) => number({ maximumFractionDigits: digits }));
  const compact = number({ notation: "compact", maximumSignificantDigits: COMPACT_DIGITS });
  const day = instantFormat(tag, { year: "numeric", month: "2-digit", day: "2-digit" });
  const minute = instantFormat(tag, { hour: "2-digit", minute: "2-digit" });

  const text = (value, render) => (isNumber(value) ? render(value).replace("-", MINUS) : MISSING);
  const signed = (value, render) => text(value, (x) => (x > 0 ? `+${render(x)}` : render(x)));
  const format = {
    integer: (value) => text(value, (x) => fixed(0).format(x)),
    fixed: (value, digits) => text(value, (x) => fixed(digits).format(clean(x, digits))),
    money: (value) => text(value, (x) => fixed(0).format(clean(x, 0))),
    moneyCents: (value) => text(value, (x) => fixed(2).format(clean(x, 2))),
    moneySigned: (value) => signed(value, (x) => fixed(0).format(clean(x, 0))),
    compact: (value) => text(value, (x) => compact.format(x)),
    /** Return the renderer of an axis with these marks: compact where that says each of them, else as fine as their step. */
    axis: (marks) => {
      const step = smallestStep(marks);
      const isSaid = (mark) => Math.abs(Number(mark.toPrecision(COMPACT_DIGITS)) - mark) < step / 100;
      if (marks.every(isSaid)) return format.compact;
      const digits = stepDigits(step);
      return (value) => format.fixed(value, digits);
    },
    price: (value) => text(value, (x) => fixed(priceDigits(x)).format(x)),
    quantity: (value) => text(value, (x) => upTo(quantityDigits(x)).format(x)),
    percent: (value, digits = 2) => text(value, (x) => `${fixed(digits).format(clean(x * 100, digits))}%`),
    percentSigned: (value, digits = 2) => signed(value, (x) => `${fixed(digits).format(clean(x * 100, digits))}%`),
    basisPoints: (value) => text(value, (x) => `${fixed(1).format(clean(x * 10_000, 1))} bp`),
    milliseconds: (value) => text(value, (x) => duration(x, fixed)),
    instant: (value) => instant(value, (date) => `${isoDay(day, date)} ${minute.format(date)} UTC`),
    timeOfDay: (value) => instant(value, (date) => minute.format(date)),
    dayAndTime: (value) => instant(value, (date) => `${isoDay(day, date).slice(5)} ${minute.format(date)}`),
  };
  return Object.freeze(format);
}

/** Return how many decimals a price of this size is shown with: about six significant digits. */
export function priceDigits(price) {
  const size = Math.abs(price);
  if (size === 0) return 2;
  return Math.min(8, Math.max(size >= 1_000 ? 1 : 2, 4 - Math.floor(Math.log10(size))));
}

function smallestStep(marks) {
  const steps = marks.slice(1).map((mark, index) => Math.abs(mark - marks[index])).filter((step) => step > 0);
  return Math.min(...steps);
}

// As many decimals as tell a step such as 2.5 exactly.
function stepDigits(step) {
  for (let digits = 0; digits < 8; digits += 1) {
    const scaled = step * 10 ** digits;
    if (scaled > 0.5 && Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return digits;
  }
  return 8;
}

function quantityDigits(quantity) {
  const size = Math.abs(quantity);
  if (size >= 10_000) return 0;
  return size >= 100 ? 2 : size >= 1 ? 4 : 6;
}

function duration(milliseconds, fixed) {
  if (milliseconds >= 10_000) return `${fixed(1).format(milliseconds / 1_000)} s`;
  return `${fixed(milliseconds < 10 ? 2 : milliseconds < 100 ? 1 : 0).format(milliseconds)} ms`;
}

function instantFormat(tag, fields) {
  return new Intl.DateTimeFormat(tag, { ...fields, timeZone: "UTC", hourCycle: "h23" });
}

function isoDay(format, date) {
  const part = Object.fromEntries(format.formatToParts(date).map(({ type, value }) => [type, value]));
  return `${part.year}-${part.month}-${part.day}`;
}

function instant(value, render) {
  if (value === null || value === undefined) return MISSING;
  const date = new Date(typeof value === "number" ? value * 1_000 : value);
  return Number.isNaN(date.getTime()) ? MISSING : render(date);
}

// -0.004 must not read as "-0.00".
function clean(value, digits) {
  return Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function cached(make) {
  const made = new Map();
  return (key) => {
    if (!made.has(key)) made.set(key, make(key));
    return made.get(key);
  };
}
