// Sleep and wake in Chromium.

import { testSleepAndWake } from './sleep-and-wake.mjs';

testSleepAndWake('chromium');
