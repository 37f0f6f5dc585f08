/** Owns how the end-to-end tests run: one Chromium with WebGPU and WebRTC, one test at a time. */
import { defineConfig } from '@playwright/test'
import { browserArgs, findBrowser } from './server/cli/browser.mjs'

const executablePath = findBrowser()

export default defineConfig({
  testDir: 'tests/e2e',
  testMatch: '**/*.spec.ts',
  globalSetup: './tests/e2e/buildPage.ts',
  outputDir: 'test-results',
  // Two cores: volunteers of two tests at once would starve each other.
  workers: 1,
  timeout: 180_000,
  expect: { timeout: 20_000 },
  forbidOnly: Boolean(process.env.CI),
  reporter: 'list',
  use: {
    browserName: 'chromium',
    headless: true,
    launchOptions: { ...(executablePath && { executablePath }), args: browserArgs() },
    // Granted, a page offers its address instead of an mDNS name, which no machine without multicast could resolve.
    permissions: ['camera', 'microphone'],
    trace: 'off',
  },
})
