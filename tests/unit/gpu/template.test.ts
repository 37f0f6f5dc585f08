/** Proves what is written into a WGSL text before it is compiled. */
import { expect, it } from 'vitest'
import { template } from '../../../src/gpu/template.ts'

it('fills constants and refuses a missing one', () => {
  expect(template('@workgroup_size({{X}}, {{Y}})', { X: 8, Y: '4u' })).toBe('@workgroup_size(8, 4u)')
  expect(() => template('{{X}}', {})).toThrow('X')
})

it('unrolls nested loops over counts and names', () => {
  const text = ['//:for i {{N}}', 'a_${i};', '//:for c x y', 'b_${i}.${c};', '//:end', '//:end', 'rest'].join('\n')
  expect(template(text, { N: 2 }).split('\n')).toEqual(['a_0;', 'b_0.x;', 'b_0.y;', 'a_1;', 'b_1.x;', 'b_1.y;', 'rest'])
  expect(template(text, { N: 0 })).toBe('rest')
  expect(() => template('//:for i 2\nx', {})).toThrow('end')
})
