// Moves every number and mark of the page to one point of the curve; the data are the report itself.
{
  const report = JSON.parse(document.getElementById('report').textContent)
  const slider = document.getElementById('point'), said = document.getElementById('said')
  const key = step => step.replace(/~1/g, '/').replace(/~0/g, '~')
  const at = pointer => pointer.slice(1).split('/').reduce((value, step) => value && value[key(step)], report)
  const number = value => value === null || value === undefined ? null : Number(value)
  const told = {
    '': value => value,
    less: (value, of) => of - value,
    saved: (value, of) => of ? 1 - value / of : null,
  }
  let waiting
  const show = index => {
    for (const cell of document.querySelectorAll('[data-at]')) {
      const {at: pattern, unit, how, of, none, shown} = cell.dataset, pointer = pattern.replace('*', index)
      let value = number(at(pointer))
      if (how) value = value === null ? null : told[how](value, number(at(of)))
      if (shown === 'word') {
        cell.textContent = value < 0 ? 'more' : 'less'
        continue
      }
      if (!how) cell.dataset.json = pointer
      cell.value = value === null ? '' : value
      cell.textContent = value === null ? none || '\u2013' : written(shown ? Math.abs(value) : value, unit)
      cell.classList.toggle('none', value === null)
    }
    for (const mark of document.querySelectorAll('[data-places]')) {
      mark.setAttribute('transform', `translate(${mark.dataset.places.split(';')[index]})`)
    }
    for (const part of document.querySelectorAll('[data-only]')) part.hidden = Number(part.dataset.only) !== index
    slider.setAttribute('aria-valuetext', document.getElementById('point-name').textContent.trim())
  }
  const move = () => {
    show(Number(slider.value))
    clearTimeout(waiting) // spoken once the slider rests, and only then
    waiting = setTimeout(() => { said.textContent = document.getElementById('told').textContent.replace(/\s+/g, ' ') }, 500)
  }
  slider.addEventListener('input', move)
  for (const button of document.querySelectorAll('[data-go]')) {
    button.addEventListener('click', () => { slider.value = button.dataset.go; move() })
  }
  for (const part of document.querySelectorAll('.needs-script')) part.hidden = false
  show(Number(slider.value))
}
