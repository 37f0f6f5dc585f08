import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { dawnEnvironment, onPath, swiftShaderFolder } from '../../../server/cli/browser.mjs'
import {
  ensurePackages,
  localNode,
  needsBuild,
  needsInstall,
  sourceHash,
  withLocalCommands,
} from '../../../server/cli/setup.mjs'
import { chosenSuites, passedTests } from '../../../server/cli/suites.mjs'

let root = ''
const put = (file: string, text = '') => {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true })
  writeFileSync(path.join(root, file), text)
}

beforeEach(() => {
  root = mkdtempSync(path.join(os.tmpdir(), 'skein-setup-'))
})
afterEach(() => rmSync(root, { recursive: true }))

describe('needsInstall', () => {
  it('is so without packages, without their Node, and after the lockfile changed', () => {
    put('package-lock.json', '{}')
    expect(needsInstall(root)).toBe(true)
    put('node_modules/.package-lock.json', '{}')
    expect(needsInstall(root)).toBe(true)
    put(path.relative(root, localNode(root)))
    expect(needsInstall(root)).toBe(false)
    const later = Date.now() / 1000 + 60
    utimesSync(path.join(root, 'package-lock.json'), later, later)
    expect(needsInstall(root)).toBe(true)
  })
})

describe('ensurePackages', () => {
  it('never lets npm empty a folder that node_modules only links to', () => {
    put('package-lock.json', '{}')
    put('elsewhere/kept')
    symlinkSync(path.join(root, 'elsewhere'), path.join(root, 'node_modules'), 'dir')
    expect(() => ensurePackages(root, () => {})).toThrow(/node_modules is a link/)
    expect(readdirSync(path.join(root, 'elsewhere'))).toEqual(['kept'])
  })
})

describe('needsBuild', () => {
  it('is so until a page stands that was made from these very sources', () => {
    put('src/ui/main.ts', 'a')
    put('shaders/x.wgsl', 'b')
    put('server/main.ts', 'of no concern')
    expect(needsBuild(root)).toBe(true)
    put('dist/index.html')
    expect(needsBuild(root)).toBe(true)
    put('dist/.source-hash', sourceHash(root))
    expect(needsBuild(root)).toBe(false)
    put('server/main.ts', 'changed')
    expect(needsBuild(root)).toBe(false)
    renameSync(path.join(root, 'shaders/x.wgsl'), path.join(root, 'shaders/y.wgsl'))
    expect(needsBuild(root)).toBe(true)
  })

  it('tells a moved byte between two files from none', () => {
    put('src/a', 'xy')
    put('src/b', 'z')
    const before = sourceHash(root)
    put('src/a', 'x')
    put('src/b', 'yz')
    expect(sourceHash(root)).not.toBe(before)
  })
})

it('puts the repository’s commands first on the PATH', () => {
  const { PATH } = withLocalCommands('/skein', { PATH: '/bin' })
  expect(PATH).toBe(['/skein/node_modules/.bin', '/bin'].join(path.delimiter))
})

describe('the browser', () => {
  it('is found by name order before folder order', () => {
    put('one/second')
    put('two/first')
    const folders = [path.join(root, 'one'), path.join(root, 'two')].join(path.delimiter)
    expect(onPath(['first', 'second'], folders)).toBe(path.join(root, 'two/first'))
    expect(onPath(['third'], folders)).toBeNull()
  })

  it('has its SwiftShader beside the executable', () => {
    put('browser/chromium')
    put('browser/vk_swiftshader_icd.json')
    expect(swiftShaderFolder(path.join(root, 'browser/chromium'))).toBe(path.join(root, 'browser'))
  })

  it('leaves Dawn the driver that the user chose', () => {
    expect(dawnEnvironment({ VK_ICD_FILENAMES: '/mine.json' })).toEqual({})
    expect(dawnEnvironment({ VK_DRIVER_FILES: '/mine.json' })).toEqual({})
  })
})

describe('the suites', () => {
  it('run all, or those named, in their own order', () => {
    const all = ['check', 'lint', 'unit', 'kernels-dawn', 'kernels-chromium', 'chain', 'sim', 'wan', 'e2e']
    expect(chosenSuites([]).map((suite) => suite.name)).toEqual(all)
    expect(chosenSuites(['e2e', '--verbose', 'lint']).map((suite) => suite.name)).toEqual(['lint', 'e2e'])
    expect(() => chosenSuites(['lnt'])).toThrow(/No suite is called lnt/)
  })

  it('read how many tests passed, colours and skipped ones aside', () => {
    expect(passedTests(' Test Files  3 passed (3)\n      Tests  1 skipped | 41 passed (42)\n')).toBe(41)
    expect(passedTests('\u001b[2m      Tests \u001b[22m \u001b[1m\u001b[32m7 passed\u001b[39m\u001b[22m (7)')).toBe(7)
    expect(passedTests('\n  1 skipped\n  12 passed (1.2m)\n')).toBe(12)
    expect(passedTests('All matched files use Prettier code style!')).toBeNull()
  })
})
