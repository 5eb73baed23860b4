"""What a page looks like to a browser, asked in JavaScript."""

CONTRASTS = """() => {
  const rgb = text => {
    const v = text.match(/[\\d.]+/g).map(Number)
    return {c: v.slice(0, 3), a: v.length > 3 ? v[3] : 1}
  }
  const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const found = rgb(getComputedStyle(e).backgroundColor)
      if (found.a === 1) return found.c
    }
    return [255, 255, 255]
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = []
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement
    if (!walker.currentNode.data.trim() || ['SCRIPT', 'STYLE', 'title'].includes(element.tagName)) continue
    const style = getComputedStyle(element), ink = rgb(element.closest('svg') ? style.fill : style.color)
    const [low, high] = [light(ink.c), light(ground(element))].sort((a, b) => a - b)
    found.push([(high + .05) / (low + .05), element.tagName, walker.currentNode.data.trim().slice(0, 40)])
  }
  return found
}"""

AGAINST_JSON = """() => {
  const report = JSON.parse(document.getElementById('report').textContent)
  const key = step => step.replace(/~1/g, '/').replace(/~0/g, '~')
  const at = pointer => pointer.slice(1).split('/').reduce((value, step) => value[key(step)], report)
  const cells = [...document.querySelectorAll('[data-json]')]
  const wrong = cells.filter(cell => { const value = at(cell.dataset.json); return value === null
      ? cell.value !== '' || ![cell.dataset.none, '\\u2013'].includes(cell.textContent)
      : Number(cell.value) !== Number(value) })
  return [cells.length, wrong.map(cell => cell.dataset.json)]
}"""

MARKS = """() => [...document.querySelectorAll('svg.chart')].map(chart => {
  const box = chart.getBoundingClientRect()
  const drawn = '.dot, .series, .layer, .ribbon, .node, .current-dot, rect.bar'
  const marks = [...chart.querySelectorAll(drawn)].map(mark => mark.getBoundingClientRect())
  return {label: chart.getAttribute('aria-label'), width: box.width, height: box.height, marks: marks.length,
    seen: marks.filter(m => m.width + m.height > 0 && m.right > box.left && m.left < box.right
      && m.bottom > box.top && m.top < box.bottom).length}
})"""

FOCUSED = """() => {
  const e = document.activeElement
  return [e.tagName, e.textContent.trim().slice(0, 30), getComputedStyle(e).outlineStyle]
}"""

SMALLEST_TYPE = """() => Math.min(...[...document.querySelectorAll('svg.chart text')].map(text => {
  const chart = text.closest('svg.chart')
  return parseFloat(getComputedStyle(text).fontSize) * chart.getBoundingClientRect().width / chart.viewBox.baseVal.width
}))"""
