// Writes numbers as jobs/report/numbers.py does: same digits, same rounding (halves to even).
function written(value, unit) {
  const MINUS = '\u2212', PLACES = {count: 0, ratio: 3, alpha: 6, share: 2}
  const fixed = (size, places) => {
    if (size >= 1e21) return BigInt(size) + (places ? '.' + '0'.repeat(places) : '')
    const longer = size.toFixed(places + 1) // a tie is a whole number of 2 ** -(places + 1): this and the next line are exact
    const tie = size * 2 ** (places + 1) % 2 === 1
    return tie && '02468'.includes(longer.replace('.', '').at(-2)) ? longer.slice(0, places ? -1 : -2) : size.toFixed(places)
  }
  const grouped = (size, places) => {
    const [whole, rest] = fixed(size, places).split('.')
    return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (rest ? '.' + rest : '')
  }
  const nothing = text => !/[1-9]/.test(text)
  const aboveNothing = (value, places, before, after) => {
    const body = grouped(Math.abs(value), places), sign = value < 0 ? MINUS : ''
    if (!value || !nothing(body)) return sign + before + body + after
    return (value < 0 ? '> ' : '< ') + sign + before + fixed(10 ** -places, places) + after
  }
  if (unit === 'percent') return aboveNothing(100 * value, 1, '', '\u00a0%')
  if (unit in PLACES) {
    const whole = grouped(Math.abs(value), PLACES[unit])
    const body = (unit === 'alpha' ? whole.replace(/\.?0+$/, '') : whole).replace(/^0\./, '.')
    return nothing(body) || value >= 0 ? body : MINUS + body
  }
  const size = Math.abs(value)
  const places = unit === 'about' && size >= 100 ? 0 : !size || size >= 0.1 ? 2 : size >= 0.001 ? 4 : 6
  return aboveNothing(value, places, '$', '')
}
